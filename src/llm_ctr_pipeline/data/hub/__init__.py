"""Published raw logs: fetched, checked, unpacked."""
