# One image for every role of Mayfly; the command picks the role. Both bases are arguments.
ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# The same sources, toolchain and lock file give the same bytes: no path of this machine and no time is in them.
ENV CARGO_INCREMENTAL=0 CARGO_TERM_PROGRESS_WHEN=never RUSTFLAGS="--remap-path-prefix=/src=. --remap-path-prefix=/usr/local/cargo=cargo"
RUN cargo build --release --locked --bin mayfly \
    && mkdir -p /image/usr/local/bin /image/var/lib/mayfly /image/etc/ssl/certs \
    && cp target/release/mayfly /image/usr/local/bin/mayfly \
    && strip /image/usr/local/bin/mayfly \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && chown -R 10001:10001 /image/var/lib/mayfly

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Mayfly" \
      org.opencontainers.image.description="A fleet of one-job git workers behind a gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
# The user has a number and no name, so that the base needs no file of users.
USER 10001:10001
ENV HOST=0.0.0.0 TMP_DIR=/tmp LOG_FORMAT=json
WORKDIR /var/lib/mayfly
EXPOSE 8080 5002 3001
STOPSIGNAL SIGTERM
# For the gateway; the other services name their role in the stack file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/mayfly", "health"]
ENTRYPOINT ["/usr/local/bin/mayfly"]
CMD ["gateway"]
