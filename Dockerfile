# The image holds the static binary, the certificates that TLS to PostgreSQL and
# webhooks needs, and an empty data directory: no shell, no package, no root.
#
#   docker build -t keystile .
#   docker run -p 127.0.0.1:8080:8080 -v keystile:/data keystile
#
# Admin verbs run in the same container:
#   docker exec CONTAINER /keystile admin key

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/keystile ./cmd/keystile \
    && mkdir -p /out/data /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /out/data /data
# SQLite and backups write their temporary files there.
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build /out/keystile /keystile

# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
# All addresses of the container; which of them are reachable is for -p to say.
ENV KEYSTILE_DATA=/data KEYSTILE_LISTEN=:8080 KEYSTILE_LOG_FORMAT=json
VOLUME /data
EXPOSE 8080
# Let the orchestrator ask /healthz and /readyz: there is no shell to ask with.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/keystile"]
CMD ["serve"]
