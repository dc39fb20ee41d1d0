"""Reading history: rows of usage, dead letters that replace missing rows, and the topics that rows
belong to.
"""
