#!/usr/bin/env bash
# Cluster B of the how-to: fully dark. See cluster-a.sh.
set -euo pipefail

hesper edge create identity user kubeB.reflect.id -o /tmp/prometheus/kubeB.reflect.id.jwt
hesper edge enroll /tmp/prometheus/kubeB.reflect.id.jwt -o /tmp/prometheus/kubeB.reflect.id.json
hesper edge create config kubeB.reflect.svc-intercept.v1 intercept.v1 \
  '{"protocols":["tcp"],"addresses":["kubeB.reflect.svc.ziti"],"portRanges":[{"low":80, "high":80}]}'
hesper edge create config "kubeB.reflect.svc-intercept.v1.scrape" intercept.v1 \
  '{"protocols":["tcp"],"addresses":["kubeB.reflect.scrape.svc.ziti"], "portRanges":[{"low":80, "high":80}], "dialOptions":{"identity":"kubeB.reflect.id"}}'
hesper edge create service "kubeB.reflect.svc" --configs "kubeB.reflect.svc-intercept.v1" -a "kubeB.reflect.svc.services"
hesper edge create service "kubeB.reflect.scrape.svc" --configs "kubeB.reflect.svc-intercept.v1.scrape"
hesper edge create service-policy "kubeB.reflect.svc.bind" Bind \
  --service-roles "@kubeB.reflect.svc" --identity-roles "@kubeB.reflect.id"
hesper edge create service-policy "kubeB.reflect.scrape.svc.bind" Bind \
  --service-roles "@kubeB.reflect.scrape.svc" --identity-roles "@kubeB.reflect.id"
hesper edge create service-policy "kubeB.reflect.svc.dial" Dial \
  --service-roles "@kubeB.reflect.svc" --identity-roles "#reflectz-clients"
hesper edge create service-policy "kubeB.reflect.svc.dial.scrape" Dial \
  --service-roles "@kubeB.reflect.scrape.svc" --identity-roles "#reflectz-clients"
hesper edge create identity user kubeB.prometheus.id -o /tmp/prometheus/kubeB.prometheus.id.jwt -a "reflectz-clients","prometheus-clients"
hesper edge enroll /tmp/prometheus/kubeB.prometheus.id.jwt -o /tmp/prometheus/kubeB.prometheus.id.json
hesper edge create config "kubeB.prometheus.svc-intercept.v1" intercept.v1 \
  '{"protocols":["tcp"],"addresses":["kubeB.prometheus.svc"],"portRanges":[{"low":80, "high":80}], "dialOptions": {"identity":"kubeB.prometheus.id"}}'
hesper edge create service "kubeB.prometheus.svc" \
  --configs "kubeB.prometheus.svc-intercept.v1"
hesper edge create service-policy "kubeB.prometheus.svc.dial" Dial \
  --service-roles "@kubeB.prometheus.svc" \
  --identity-roles "#prometheus-clients"
hesper edge create service-policy "kubeB.prometheus.svc.bind" Bind \
  --service-roles "@kubeB.prometheus.svc" \
  --identity-roles "@kubeB.prometheus.id"
