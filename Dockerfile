# syntax=docker/dockerfile:1
# The gateway as an image: a release build, run by a user without rights. `docker build -t tollway .`

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# .sqlx holds what the queries need to know of the schema: no database is needed to compile.
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p tollway && install -D target/release/tollway /out/tollway

FROM debian:bookworm-slim
# Certificates, to call providers; curl, for the health check.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tollway --create-home tollway
COPY --from=build /out/tollway /usr/local/bin/tollway
COPY LICENSE /usr/share/doc/tollway/LICENSE
USER tollway
# Where a lake goes that is a local folder.
ENV TOLLWAY_DATA=/var/lib/tollway
VOLUME /var/lib/tollway
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD curl -fsS http://127.0.0.1:8787/livez
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollway"]
CMD ["serve"]
