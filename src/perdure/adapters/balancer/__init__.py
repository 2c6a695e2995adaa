"""HAProxy as the balancer."""
