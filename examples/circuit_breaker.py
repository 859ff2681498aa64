"""Circuit breaker around any call, speech or not."""

from __future__ import annotations

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError

weather = CircuitBreaker("weather", CircuitBreakerConfig(window_size=4, cooldown_period=30))


@weather
def forecast(town: str) -> str:
    """Call a service that is down."""
    raise ConnectionError(f"no route to the weather of {town}")


def main() -> None:
    """Call until the circuit opens, and print the explanation."""
    for _ in range(5):
        try:
            print(forecast("Ghent"))
        except CircuitOpenError as refusal:
            print(f"refused: {refusal.reason}; retry in {refusal.retry_after:.0f} s")
        except ConnectionError as error:
            print(f"failed: {error}")
    print(weather.explain())


if __name__ == "__main__":
    main()
