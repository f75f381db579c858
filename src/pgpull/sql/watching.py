"""Questions about how much a server has to do."""

from __future__ import annotations

from typing import Final, TypeAlias

from psycopg.sql import SQL

Question: TypeAlias = SQL

# What others do is hidden from all other roles (manual: 27.2, table 27.1).
MAY_KNOW: Final = SQL("SELECT pg_has_role('pg_read_all_stats', 'USAGE')::int")

ACTIVE: Final = SQL("""
    SELECT count(*) FROM pg_stat_activity
     WHERE state = 'active' AND backend_type = 'client backend' AND application_name <> 'pgpull'
""")

# Seconds by which the slowest replica's queries lag; none, where none has anything left to do.
LAG_OF_OTHERS: Final = SQL("""
    SELECT coalesce(extract(epoch FROM max(replay_lag)), 0)::float8 FROM pg_stat_replication
""")

# A standby that has replayed all it got may have heard of nothing new for long: that is no lag.
LAG_HERE: Final = SQL("""
    SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                ELSE coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)
           END::float8
""")
