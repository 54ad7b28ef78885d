# Tidegate in an image: the one binary, its settings, and nothing to build with. What is built, and how, is in
# scripts/build-release, which CI runs as well.
FROM rust:1.95.0-bookworm AS build
# The toolchain is the image's own: rust-toolchain.toml would ask for the linters too.
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TARGET_DIR=/target
WORKDIR /src
COPY . .
# The sources come without their history: --build-arg TIDEGATE_COMMIT=$(git rev-parse HEAD) says in VERSION what they are.
ARG TIDEGATE_COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    TIDEGATE_COMMIT=$TIDEGATE_COMMIT scripts/build-release --out /release

FROM debian:12.12-slim
# What the binary links to (build-release refuses others), and the certificates for TLS to Kafka and PostgreSQL.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tidegate
COPY --from=build /release/tidegate /usr/local/bin/tidegate
COPY --from=build /release/default.toml /release/LICENSE /release/VERSION /usr/share/tidegate/
COPY --from=build /release/schemas /usr/share/tidegate/schemas
USER 10001:10001
EXPOSE 8080 8091
ENTRYPOINT ["tidegate"]
CMD ["--help"]
