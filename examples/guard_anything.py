"""The breaker by itself: it guards any call, speech or not."""

from __future__ import annotations

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError

weather = CircuitBreaker("weather", CircuitBreakerConfig(window_size=4, cooldown_period=30))


@weather
def forecast(town: str) -> str:
    """Ask a service that happens to be down."""
    raise ConnectionError(f"no route to the weather of {town}")


def main() -> None:
    """Ask until the circuit opens, and say why it did."""
    for _ in range(5):
        try:
            print(forecast("Ghent"))
        except CircuitOpenError as refusal:
            print(f"refused: {refusal.reason}; again in {refusal.retry_after:.0f} s")
        except ConnectionError as error:
            print(f"failed: {error}")
    print(weather.explain())


if __name__ == "__main__":
    main()
