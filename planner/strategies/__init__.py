"""How a statement over regions becomes one answer.

One strategy a file, each giving a plan or the reason it declined.
"""
