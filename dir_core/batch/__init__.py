"""Many clips in one go: which ones, what is finished already, on this machine's cores or on a cluster, and a table."""
