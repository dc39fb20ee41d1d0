"""The database that holds history: the files that make its tables, and whose it is."""
