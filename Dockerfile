# docker build -t crier . && docker run --rm -p 8080:8080 crier
#
# tests/tools/dockerfile-in-chroot runs these steps without Docker, in a clean Debian 13.

FROM debian:trixie-slim AS build
WORKDIR /crier
COPY tests/tools tests/tools
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && tests/tools/need install build
COPY Makefile .
COPY include include
COPY src src
COPY web web
RUN make

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates libcurl4t64 libhiredis1.1.0 libjansson4 libmicrohttpd12t64 libnghttp2-14 \
        libssl3t64 libwslay1 libzstd1 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /crier/build/release/crier /usr/local/bin/crier
USER 65532:65532

# Several of them act as one with -e REDIS_URL=redis://HOST. For rediss:// the image trusts whom
# Debian trusts; a CA of your own is mounted and named by CRIER_REDIS_CA.
#
# There are no keys yet, so crier serves beyond loopback only when told that everybody may publish.
# Publish the port only where that is meant.
ENV CRIER_HOST=0.0.0.0 CRIER_INSECURE=true PORT=8080
EXPOSE 8080

# Not /ready, which is for load balancers: a container that is replaced because Redis is away loses
# its streams for nothing. bash is part of the base image, a client for HTTP is not.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$PORT" && printf "GET /health HTTP/1.0\r\n\r\n" >&3 && head -n 1 <&3 | grep -q " 200 "'

ENTRYPOINT ["crier"]
CMD ["serve"]
