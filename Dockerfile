# docker build -t pgpull . && docker run --rm pgpull
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# `embedded` brings pg_dump, which --create-missing needs, and a private Postgres for who has none
RUN python -m venv /opt/pgpull \
    && /opt/pgpull/bin/pip install --no-cache-dir --disable-pip-version-check '.[embedded]'

FROM python:3.13-slim
# the system's own ssh, for SERVER_SSH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 pgpull \
    && mkdir /work \
    && chown pgpull /work
COPY --from=build /opt/pgpull /opt/pgpull
ENV PATH="/opt/pgpull/bin:$PATH"
USER pgpull
# .env and pgpull.toml are looked for here, and rejects are written here: mount a folder of yours
WORKDIR /work
ENTRYPOINT ["pgpull"]
CMD ["--help"]
