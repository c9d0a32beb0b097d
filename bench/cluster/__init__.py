"""What many rollouts cost a real API server and the machine of `penstock run`."""
