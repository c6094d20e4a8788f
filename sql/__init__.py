"""The in-database half: `parts/*.sql`, built into one extension script that is also the plain script."""
