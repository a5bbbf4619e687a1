"""What lives as long as the process and knows no configuration that can be reloaded.

Knows the settings, the clocks, the keys, the logs, the metrics, the tasks and the state of
conversations. Everything a generation is built upon, and nothing that stands in the document.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from waygate_mcp.auth.jwks import KeySets
from waygate_mcp.auth.key_book import KeyBook
from waygate_mcp.auth.key_text import KeyHash
from waygate_mcp.config.settings import Settings
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.model.ports import FarCounterStore
from waygate_mcp.policy.pins import Pins
from waygate_mcp.policy.places import Places
from waygate_mcp.runtime.audit import AuditRoom
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.peers import Peers
from waygate_mcp.runtime.secrets import SecretHouse
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.runtime.upstreams import UpstreamHouse
from waygate_mcp.storage.engine import Database
from waygate_mcp.storage.writer import BackgroundWriter
from waygate_mcp.telemetry.logs import Logs
from waygate_mcp.telemetry.metrics import Metrics

__all__ = ["Foundation"]


@dataclass(frozen=True, slots=True)
class Foundation:
    """The process-lifetime things. `live.ring` is the key ring, `key_hash` hashes API keys.

    `peers` are the other workers, None where this process is alone. `key_sets` holds the keys of the
    issuers of access tokens. `counters` and `places` outlive reloads, as do what a caller has spent and its
    calls under way.
    """

    settings: Settings
    clock: Clock
    logs: Logs
    metrics: Metrics
    supervisor: TaskSupervisor
    live: LiveState
    key_hash: KeyHash
    upstreams: UpstreamHouse
    database: Database
    pins: Pins
    writer: BackgroundWriter
    keys: KeyBook
    secrets: SecretHouse
    audit: AuditRoom
    counters: FarCounterStore
    peers: Peers | None = None
    key_sets: KeySets | None = None
    places: Places = field(default_factory=Places)
