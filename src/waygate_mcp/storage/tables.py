"""Every table and view, as this version of the program knows them.

Knows names, columns and indexes (surface.md 6). Refuses to know what rows mean: one repository for each
noun does. A change here needs a revision under `migrations/`; a test compares the two.

Times are aware and in UTC. `version` columns take the next number of one counter for the whole database,
inside the transaction that writes, so that whoever polls for `version > seen` misses nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

__all__ = [
    "VIEWS",
    "UtcTime",
    "api_key_usage",
    "api_keys",
    "audit_heads",
    "audit_log",
    "command_history",
    "config",
    "config_history",
    "counters",
    "execution_logs",
    "metadata",
    "metrics",
    "names",
    "plugin_commands",
    "plugin_config",
    "plugin_metrics",
    "plugins",
    "secrets",
    "system_events",
    "tool_pins",
    "upstreams",
]


class UtcTime(TypeDecorator[datetime]):
    """A moment: aware in Python, UTC in the database, whatever the time zone of either."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse what has no time zone, and store the rest as UTC.

        Raises:
            ValueError: the time is naive.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time back as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> sa.Column[int]:
    """A number that only grows. SQLite grows a key by itself only where it is INTEGER."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def _text(name: str, **more: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), **{"nullable": False, **more})


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _time(name: str, **more: Any) -> sa.Column[datetime]:
    return sa.Column(name, UtcTime(), **{"nullable": False, **more})


def _number(name: str, **more: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), **{"nullable": False, **more})


def _json(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), **{"nullable": False, **more})


def _bytes(name: str, **more: Any) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), **{"nullable": False, **more})


counters = sa.Table("counters", metadata, _key("name"), _number("value"))
"""Numbers that only grow; `version` is the one rows take theirs from."""

config = sa.Table(
    "config", metadata, _key("name"), _json("value"), _time("changed_at_utc"), _number("version")
)
"""Small facts of the installation, by name."""

config_history = sa.Table(
    "config_history",
    metadata,
    _id(),
    _text("digest"),
    _text("text"),
    _time("applied_at_utc"),
    _text("applied_by"),
    _text("reason"),
)
"""Each document that was put in force, secrets in clear taken out."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    _key("id"),
    _bytes("digest"),
    _bytes("previous_digest", nullable=True),
    _time("previous_until_utc", nullable=True),
    _text("name"),
    _json("roles"),
    _json("narrowing"),
    _json("limits"),
    _time("created_at_utc"),
    _text("created_by"),
    _time("expires_at_utc", nullable=True),
    _time("revoked_at_utc", nullable=True),
    _time("last_used_at_utc", nullable=True),
    _time("changed_at_utc"),
    _number("version", index=True),
)
"""API keys by their public id; the text of a key is nowhere."""

api_key_usage = sa.Table(
    "api_key_usage", metadata, _key("key_id"), _key("day"), _number("calls"), _number("errors")
)
"""Calls of a key on a day (`2026-11-28`, UTC)."""

plugins = sa.Table(
    "plugins",
    metadata,
    _key("name"),
    _text("uses"),
    _text("state"),
    _text("error", nullable=True),
    _time("loaded_at_utc"),
)
"""Plugins as they were last loaded."""

plugin_config = sa.Table(
    "plugin_config",
    metadata,
    _key("plugin"),
    _text("digest"),
    _json("value"),
    _time("changed_at_utc"),
)
"""Their configuration, references not resolved."""

plugin_commands = sa.Table(
    "plugin_commands",
    metadata,
    _key("plugin"),
    _key("kind"),
    _key("name"),
    _text("description", nullable=True),
    _json("parameters"),
)
"""What they offer."""

command_history = sa.Table(
    "command_history",
    metadata,
    _id(),
    _time("at_utc", index=True),
    _text("request_id", index=True),
    _text("principal", index=True),
    _text("endpoint"),
    _text("method"),
    _text("provider", nullable=True),
    _text("name", nullable=True),
    _text("outcome"),
    sa.Column("duration_ms", sa.Float(), nullable=False),
)
"""Calls that were answered, for people: of a busy gateway a part, the audit journal has all. Kept for 90 days."""

execution_logs = sa.Table(
    "execution_logs",
    metadata,
    _id(),
    _time("at_utc", index=True),
    _text("request_id", nullable=True, index=True),
    _text("level"),
    _text("source"),
    _text("message"),
    _json("data"),
)
"""What failed on the way, in words. Kept for 60 days."""

metrics = sa.Table(
    "metrics",
    metadata,
    _id(),
    _time("at_utc", index=True),
    _text("name"),
    _json("labels"),
    sa.Column("value", sa.Float(), nullable=False),
)
"""Measured values, now and then. Kept for 30 days."""

plugin_metrics = sa.Table(
    "plugin_metrics",
    metadata,
    _key("plugin"),
    _key("command"),
    _key("day"),
    _number("calls"),
    _number("errors"),
    sa.Column("duration_ms", sa.Float(), nullable=False),
    sa.Column("slowest_ms", sa.Float(), nullable=False),
)
"""Calls of a plugin's command on a day: how many, how many failed, how long they took together."""

system_events = sa.Table(
    "system_events",
    metadata,
    _id(),
    _time("at_utc", index=True),
    _text("kind"),
    _text("severity"),
    _text("subject", nullable=True),
    _text("message"),
    _json("data"),
)
"""Starts, stops, reloads, drift, outages."""

upstreams = sa.Table(
    "upstreams", metadata, _key("name"), _text("key"), _json("facts"), _time("seen_at_utc")
)
"""What upstreams said of themselves; `key` tells what is configured under a name from what was."""

names = sa.Table(
    "names",
    metadata,
    _key("endpoint"),
    _key("kind"),
    _key("name"),
    _json("claim"),
    _number("version", index=True),
)
"""Whose the public names are."""

tool_pins = sa.Table(
    "tool_pins",
    metadata,
    _key("upstream"),
    _key("kind"),
    _key("name"),
    _text("state"),
    _text("digest", nullable=True),
    _text("definition", nullable=True),
    _text("seen_digest", nullable=True),
    _text("seen_definition", nullable=True),
    _time("first_seen_at_utc"),
    _time("changed_at_utc"),
    _time("approved_at_utc", nullable=True),
    _text("approved_by", nullable=True),
    _number("version", index=True),
)
"""Definitions of upstreams: the approved one, and the one seen last where it differs."""

audit_log = sa.Table(
    "audit_log",
    metadata,
    _key("chain"),
    sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
    _time("at_utc", index=True),
    _text("kind"),
    _text("principal", nullable=True, index=True),
    _text("endpoint", nullable=True),
    _text("method", nullable=True),
    _text("upstream", nullable=True),
    _text("name", nullable=True, index=True),
    _text("outcome", nullable=True),
    sa.Column("duration_ms", sa.Float(), nullable=True),
    _text("arguments_digest", nullable=True),
    _text("request_id", nullable=True, index=True),
    _text("record"),
)
"""A copy of the audit journal that can be asked questions; the journal is the truth."""

audit_heads = sa.Table(
    "audit_heads",
    metadata,
    _key("chain"),
    sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
    _text("mac"),
    _time("at_utc"),
    _text("signature"),
)
"""How far each chain of the journal was, signed: a tail that was cut off is missed."""

secrets = sa.Table(
    "secrets",
    metadata,
    _key("name"),
    _number("version"),
    _text("key_id"),
    _bytes("wrapped_key"),
    _bytes("nonce"),
    _bytes("ciphertext"),
    _time("created_at_utc"),
    _time("updated_at_utc"),
)
"""Secrets, each encrypted with a key of its own that the master key wraps."""

VIEWS = {
    "v_active_api_keys": (
        "SELECT id, name, roles, narrowing, created_at_utc, expires_at_utc, last_used_at_utc "
        "FROM api_keys WHERE revoked_at_utc IS NULL "
        "AND (expires_at_utc IS NULL OR expires_at_utc > CURRENT_TIMESTAMP)"
    ),
    "v_plugin_performance": (
        "SELECT plugin, command, SUM(calls) AS calls_total, SUM(errors) AS errors_total, "
        "SUM(duration_ms) / NULLIF(SUM(calls), 0) AS avg_duration_ms, "
        "MAX(slowest_ms) AS slowest_ms FROM plugin_metrics GROUP BY plugin, command"
    ),
}
"""Views for people and their tools, by name; nothing of ours reads them."""
