"""How large a network is: parameters, MACs and activations, of each stage and with each gate."""
