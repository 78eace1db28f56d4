"""Many runs in virtual time: the conductor's own code, over a broker, a database and a store in memory that fail by seed."""
