"""Domicile: a global data network made of the PostgreSQL servers people already have."""

__version__ = "0.1.0"
