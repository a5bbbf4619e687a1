"""Whether our gateway kept its books under load: every request counted, every request logged.

A gateway that is fast because it forgot to count would be measured wrongly, so the bench reads the
metrics and the log after the last round and compares them with what the load generator sent.
"""

import http.client
import time

from calls import WAIT_S, WrongAnswerError
from servers import Running

REQUEST_LINE = b'"event":"request"'
SETTLE_S = 1.0
"""Time for the log's thread to write what is queued."""


def check_books(server: Running, requests: int) -> str:
    """Compare the gateway's own counts with the requests it answered; a sentence for the result.

    Raises:
        WrongAnswerError: requests are missing in the metrics, or in the log without being counted
            as dropped.
    """
    time.sleep(SETTLE_S)
    numbers = read_metrics(server)
    counted = sum(
        value
        for name, value in numbers.items()
        if name.startswith("waygate_requests_total") and 'status="200"' in name
    )
    dropped = sum(
        value for name, value in numbers.items() if name.startswith("waygate_log_lines_dropped")
    )
    if counted < requests:
        raise WrongAnswerError(f"waygate counted {counted:.0f} of {requests} requests")
    logged = count_lines(server)
    if logged + dropped < requests:
        raise WrongAnswerError(f"waygate logged {logged} of {requests} requests")
    return (
        f"waygate counted {counted:,.0f} requests of {requests:,} that were measured, wrote "
        f"{logged:,} log lines and dropped {dropped:,.0f}"
    )


def read_metrics(server: Running) -> dict[str, float]:
    """`/metrics`, by name and labels."""
    connection = http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=WAIT_S)
    try:
        bearer = {"Authorization": f"Bearer {server.target.key}"}
        connection.request("GET", "/metrics", headers=bearer)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise WrongAnswerError(f"/metrics answers {response.status}")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [line.rpartition(" ") for line in lines]
    return {name: float(value) for name, _, value in pairs}


def count_lines(server: Running) -> int:
    """Lines of the request log on standard error."""
    with server.log_path.open("rb") as log:
        return sum(REQUEST_LINE in line for line in log)
