"""The agent: reads its region's WAL, masks at home, ships, applies copies."""
