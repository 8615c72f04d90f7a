"""What several tools share: trained networks, sizes of networks, chips, and compiled programs as text."""
