"""What a log is: its columns, its times, the fields derived from them."""
