# The gateway with its bundled providers. Build it with: docker build -t batchway .
#
# Run it, with a configuration and a place for the ledger that outlives the container:
#   docker run -p 127.0.0.1:8484:8484 -v batchway-data:/var/lib/batchway \
#     -v ./config.toml:/etc/batchway/config.toml:ro -e OPENAI_API_KEY batchway
#
# Inside a container 127.0.0.1 is the container itself, so the host's port would lead nowhere: the configuration needs
#   [server]   host = "0.0.0.0"
#   [storage]  directory = "/var/lib/batchway"
#   [[clients]] with a key, without which the gateway refuses to listen beyond loopback.
# `-p 127.0.0.1:8484:8484` keeps the port on the host's own loopback; leave the address out to serve other machines,
# and name them in `server.allowed_hosts`.

FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/batchway \
 && /opt/batchway/bin/pip install --no-cache-dir --quiet --constraint constraints.txt .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/batchway --create-home --shell /usr/sbin/nologin batchway \
 && chmod 0700 /var/lib/batchway
COPY --from=build /opt/batchway /opt/batchway
ENV PATH=/opt/batchway/bin:$PATH PYTHONUNBUFFERED=1
USER batchway
WORKDIR /var/lib/batchway
VOLUME /var/lib/batchway
EXPOSE 8484

# A container that is stopped leaves its remote batches running and takes them up again: see docs on shutdown.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8484/healthz', timeout=4)"]

CMD ["batchway", "serve", "--config", "/etc/batchway/config.toml"]
