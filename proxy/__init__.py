"""The gateway and the guard: message codec, authentication, sessions, pools, execution of plans."""
