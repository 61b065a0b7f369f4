# One image for every role; the command says which: leaderboard serve | work | migrate, or leaderboard-operator.
#
#   docker build -t leaderboard:0.1.0 .
#
# Both the classic builder and BuildKit take it. Build arguments:
#   BASE       what both stages stand on: Python 3.11 or later on Linux with glibc, with pip and a shell. By digest,
#              which names the bytes for every processor; the tag before it is for people. To renew it:
#              docker buildx imagetools inspect python:3.11-slim-bookworm
#   INDEX_URL  a package index other than PyPI. It stays in the first stage, and only /opt/leaderboard leaves that.
#   VERSION, REVISION  what the labels say.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
ARG INDEX_URL=https://pypi.org/simple
# The base's own certificates, so that a company's authority in them counts.
ENV UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY Dockerfile.requirements.txt ./
RUN python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --index-url "$INDEX_URL" \
    --no-deps --only-binary :all: --require-hashes --target /tools -r Dockerfile.requirements.txt
ENV PATH=/tools/bin:$PATH
# The packages before the sources: they change less often. Wheels alone: nothing is compiled here.
COPY pyproject.toml uv.lock ./
RUN uv export --quiet --frozen --extra operator --no-emit-project --no-annotate --no-header >locked.txt \
    && uv venv --quiet --python "$(command -v python3)" /opt/leaderboard \
    && uv pip install --quiet --python /opt/leaderboard --default-index "$INDEX_URL" \
    --no-deps --only-binary :all: --require-hashes -r locked.txt
COPY README.md LICENSE ./
# The dashboard is in it where `make web` built it first, as `make image` does.
COPY app/leaderboard app/leaderboard
COPY operator/leaderboard_operator operator/leaderboard_operator
# uv's lock could be written by everybody.
RUN PYTHONPATH=/tools uv pip install --quiet --python /opt/leaderboard --offline --no-deps --no-build-isolation . \
    && rm /opt/leaderboard/.lock

FROM ${BASE}
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="leaderboard" \
    org.opencontainers.image.description="Leaderboards as a service: API, worker, operator and migrations" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
# What installs and builds packages is not for here. The standard library's bytecode is: the official images leave it
# out, and a root that cannot be written would have it compiled at every start.
RUN find / -xdev -depth \( -path '*/bin/*' -o -path '*-packages/*' -o -name ensurepip \) \
    \( -name 'pip' -o -name 'pip[0-9.]*' -o -name 'pip-*' -o -name ensurepip -o -name 'setuptools*' -o -name 'wheel' \
    -o -name 'wheel-*' -o -name pkg_resources -o -name '_distutils_hack' -o -name 'distutils-precedence.pth' \) \
    -exec rm -rf {} + \
    && python3 -m compileall -q -j 0 "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/leaderboard /opt/leaderboard
# LOGNAME, since this user is in no /etc/passwd, and Kopf asks for its name.
ENV PATH=/opt/leaderboard/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    LOGNAME=leaderboard \
    LEADERBOARD_BIND=0.0.0.0:8080 \
    LEADERBOARD_OPERATOR_BIND=0.0.0.0:8081
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
USER 65532:65532
CMD ["leaderboard", "serve"]
