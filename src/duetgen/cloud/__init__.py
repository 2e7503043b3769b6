"""The cloud: a service that turns a device's recent behaviour into that device's parameters. Never imports torch.

- `config`: what a service is started with
- `server`: worker processes, sockets, signals
- `app`: the routes
- `parameters`: the endpoints that answer with theta
- `engine`: one version's generator
- `gathering`: requests that wait together are generated together
- `registry`: the versions in service, published and rolled back while it runs
- `access`: who may ask: tokens and their scopes
- `tokens`: the stores of tokens: `sqlite_tokens`; `postgres_tokens` and `postgres_reader`
- `metrics`: what is counted
- `errands`: work that may never end, done aside
- `open_files`: the limit of connections
- `errors`: refusals, each with a code
"""

from duetgen.cloud.app import create_app
from duetgen.cloud.config import ServiceConfig

__all__ = ["ServiceConfig", "create_app"]
