"""Every SQL statement that pgpull sends, as functions from values to psycopg compositions.

Nothing here runs anything, and no other package holds SQL words.
"""
