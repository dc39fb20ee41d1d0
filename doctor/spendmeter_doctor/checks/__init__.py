"""What the doctor checks: each module has one check, a function from a system to what is wrong with it."""
