"""Sends a job to a cluster: what the cluster must see, what is packed, who may, and how its end is told."""
