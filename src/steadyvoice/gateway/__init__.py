"""The HTTP front door: an application in any language points its client's `base_url` here. Needs `[gateway]`."""

from steadyvoice._extras import require

require("gateway", "msgspec", "av", "pydantic", "uvicorn", "websockets", "prometheus_client")
