"""Whether a run can start on these machines: versions, devices, workdir, data, one step, collectives."""
