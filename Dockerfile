# The gateway as an image: Debian's own Python, locked and hashed packages, no compiler, no pip, no login.
#
#   docker build --tag waygate-mcp .
#
# BASE          the base image. To pin its content: --build-arg BASE=debian@sha256:… (docs/CONTAINER_SECURITY.md)
# secret `ca`   optional, for networks that answer with certificates of their own:
#               --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt
# secret `pip`  optional, a pip.conf that names another package index: --secret id=pip,src=$HOME/.config/pip/pip.conf
#               Both are read while packages are fetched and kept in no layer.

ARG BASE=debian:trixie-slim

# ---- what both sides need: the interpreter, and the certificates for calls to other servers; nothing is set-uid
FROM ${BASE} AS python
RUN apt-get update \
 && apt-get upgrade --yes \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# ---- the environment, made where pip is and left behind where it is not
FROM python AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/runtime.lock requirements/build.lock requirements/
RUN --mount=type=secret,id=ca,required=false --mount=type=secret,id=pip,required=false \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
 && if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi \
 && python3 -m venv tools && python3 -m venv --without-pip /opt/waygate \
 && tools/bin/pip install --quiet --require-hashes --only-binary :all: --requirement requirements/build.lock \
 && tools/bin/pip --python /opt/waygate/bin/python install --quiet --require-hashes --only-binary :all: \
      --requirement requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN tools/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir wheels . \
 && tools/bin/pip --python /opt/waygate/bin/python install --quiet --no-index --no-deps wheels/*.whl

# ---- what runs
FROM python
LABEL org.opencontainers.image.title="Waygate MCP" \
      org.opencontainers.image.description="A framework, a gateway and an operated service for the Model Context Protocol." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="Waygate MCP contributors" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim"
RUN groupadd --gid 1000 waygate \
 && useradd --uid 1000 --gid 1000 --home-dir /app --no-create-home --shell /usr/sbin/nologin waygate \
 && install --directory --mode 755 /app /app/config \
 && install --directory --mode 700 --owner waygate --group waygate /app/data /app/logs /app/tmp
COPY --from=build /opt/waygate /opt/waygate
ENV PATH=/opt/waygate/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/app \
    TMPDIR=/app/tmp \
    WAYGATE_ENV=production \
    WAYGATE_HOST=0.0.0.0 \
    WAYGATE_PORT=8000 \
    WAYGATE_DATA_DIR=/app/data \
    WAYGATE_LOG_DIR=/app/logs
# The document is /app/config/waygate.yaml where one is mounted; without it the built-in plugin `hello` is served.
WORKDIR /app/config
USER 1000:1000
EXPOSE 8000
VOLUME ["/app/data", "/app/logs"]
STOPSIGNAL SIGTERM
# Asked with as little as answers the question: HTTP/1.1 200, from a Python that loads nothing else.
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/bin/python3", "-I", "-S", "-c", "import socket; s = socket.create_connection(('127.0.0.1', 8000), 4); s.sendall(b'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n'); raise SystemExit(s.recv(12) != b'HTTP/1.1 200')"]
ENTRYPOINT ["waygate"]
CMD ["serve"]
