//! The driver: the one task that owns the failover machine and carries its effects out.
