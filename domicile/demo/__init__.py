"""`domicile demo`: three regions on one machine, a shop in them, and a guided tour."""
