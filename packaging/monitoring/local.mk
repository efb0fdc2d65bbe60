# SPDX-License-Identifier: LGPL-2.1-or-later
# What a Prometheus and a Grafana are given for the metrics.
monitoringdir = $(docdir)/monitoring
dist_monitoring_DATA = \
	packaging/monitoring/xenmsg.rules.yml \
	packaging/monitoring/xenmsg-dashboard.json
EXTRA_DIST += packaging/monitoring/xenmsg.rules.test.yml
