"""How training runs on this machine: device, precision, compilation, memory."""
