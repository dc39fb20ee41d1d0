"""How history is read: rows of usage, what stands for rows that it lacks, and which topics they are of."""
