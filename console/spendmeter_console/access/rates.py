"""How often one address may try: a bucket of attempts each, which fills again with time. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

MAX_BUCKETS = 10_000
_HOST_BITS_OF_A_SITE = 64


class Rates:
    """At most `burst` at once, and `per_minute` in the long run, for each name."""

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self._per_second = per_minute / 60
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left, and when that was so. The one that was used least recently goes first."""

    def wait_seconds(self, name: str) -> float:
        """Count an attempt. 0 if it may go on, else in how many seconds the next one may."""
        now = self._clock()
        left, at = self._buckets.pop(name, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_second)
        is_allowed = left >= 1
        self._buckets[name] = (left - 1 if is_allowed else left, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - left) / self._per_second


def bucket_of(address: str) -> str:
    """The name that an address counts under: of IPv6 its network, since a client has all of that."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, _HOST_BITS_OF_A_SITE), strict=False))
    return str(found)
