#!/usr/bin/env bash
# Cluster A of the published OpenZiti how-to for Prometheus, its commands in order, `ziti` written `hesper`.
# The test runs it with a directory of its own in place of /tmp/prometheus.
set -euo pipefail

hesper edge create identity device kubeA.ziti.id -o /tmp/prometheus/kubeA.ziti.id.jwt -a "kubeA.services"
hesper edge create identity user kubeA.reflect.id -o /tmp/prometheus/kubeA.reflect.id.jwt
hesper edge enroll /tmp/prometheus/kubeA.reflect.id.jwt -o /tmp/prometheus/kubeA.reflect.id.json
hesper edge create config kubeA.reflect.svc-intercept.v1 intercept.v1 \
  '{"protocols":["tcp"],"addresses":["kubeA.reflect.svc.ziti"],"portRanges":[{"low":80, "high":80}]}'
hesper edge create config "kubeA.reflect.svc-intercept.v1.scrape" intercept.v1 \
  '{"protocols":["tcp"],"addresses":["kubeA.reflect.scrape.svc.ziti"], "portRanges":[{"low":80, "high":80}], "dialOptions":{"identity":"kubeA.reflect.id"}}'
hesper edge create service "kubeA.reflect.svc" --configs "kubeA.reflect.svc-intercept.v1" -a "kubeA.reflect.svc.services"
hesper edge create service "kubeA.reflect.scrape.svc" --configs "kubeA.reflect.svc-intercept.v1.scrape"
hesper edge create service-policy "kubeA.reflect.svc.bind" Bind \
  --service-roles "@kubeA.reflect.svc" --identity-roles "@kubeA.reflect.id"
hesper edge create service-policy "kubeA.reflect.scrape.svc.bind" Bind \
  --service-roles "@kubeA.reflect.scrape.svc" --identity-roles "@kubeA.reflect.id"
hesper edge create service-policy "kubeA.reflect.svc.dial" Dial \
  --service-roles "@kubeA.reflect.svc" --identity-roles "#reflectz-clients"
hesper edge create service-policy "kubeA.reflect.svc.dial.scrape" Dial \
  --service-roles "@kubeA.reflect.scrape.svc" --identity-roles "#reflectz-clients"
hesper edge create identity user kubeA.prometheus.id -o /tmp/prometheus/kubeA.prometheus.id.jwt -a "reflectz-clients","prometheus-clients"
hesper edge enroll /tmp/prometheus/kubeA.prometheus.id.jwt -o /tmp/prometheus/kubeA.prometheus.id.json
hesper edge create config "kubeA.prometheus.svc-intercept.v1" intercept.v1 \
  '{"protocols":["tcp"],"addresses":["kubeA.prometheus.svc"],"portRanges":[{"low":80, "high":80}]}'
hesper edge create config "kubeA.prometheus.svc-host.v1" host.v1 \
  '{"protocol":"tcp", "address":"prometheuz-prometheus-server","port":80}'
hesper edge create service "kubeA.prometheus.svc" \
  --configs "kubeA.prometheus.svc-intercept.v1","kubeA.prometheus.svc-host.v1"
hesper edge create service-policy "kubeA.prometheus.svc.dial" Dial \
  --service-roles "@kubeA.prometheus.svc" \
  --identity-roles "#prometheus-clients"
hesper edge create service-policy "kubeA.prometheus.svc.bind" Bind \
  --service-roles "@kubeA.prometheus.svc" \
  --identity-roles "@kubeA.ziti.id"
