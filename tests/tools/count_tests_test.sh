#!/usr/bin/env bash
# tools/count-tests on one target of each fate: two passed cases, one failed and one skipped case, a crash
# without a report, a target that did not build, and one that this machine cannot run.
set -euo pipefail

cat >"$TEST_TMPDIR/mixed.xml" <<'XML'
<testsuites><testsuite name="s">
  <testcase name="a" status="run" result="completed"/>
  <testcase name="b" status="run" result="completed"/>
  <testcase name="c" status="run" result="completed"><failure message="no"/></testcase>
  <testcase name="d" status="run" result="skipped"/>
  <testcase name="e" status="notrun" result="suppressed"/>
</testsuite></testsuites>
XML
cat >"$TEST_TMPDIR/script.xml" <<'XML'
<testsuites><testsuite name="s"><testcase name="t" status="run"/></testsuite></testsuites>
XML

configured() {
  echo '{"id":{"targetConfigured":{"label":"'"$1"'"}},"configured":{"targetKind":"'"$2"'"}}'
}
result() {
  echo '{"id":{"testResult":{"label":"'"$1"'"}},"testResult":{"testActionOutput":[{"name":"test.xml","uri":"file://'"$2"'"}]}}'
}
summary() {
  echo '{"id":{"testSummary":{"label":"'"$1"'"}},"testSummary":{"overallStatus":"'"$2"'"}}'
}
{
  echo '{"id":{"started":{}},"started":{}}'
  configured //a:library "cc_library rule"
  for name in mixed script crash unbuilt cuda; do configured "//a:$name" "cc_test rule"; done
  result //a:mixed "$TEST_TMPDIR/mixed.xml"
  summary //a:mixed FAILED
  result //a:script "$TEST_TMPDIR/script.xml"
  summary //a:script PASSED
  summary //a:crash FAILED
  echo '{"id":{"targetCompleted":{"label":"//a:cuda"}},"aborted":{"reason":"SKIPPED"}}'
  echo '{"id":{"targetCompleted":{"label":"//a:unbuilt"}},"completed":{"success":false}}'
} >"$TEST_TMPDIR/events.json"

counted=$(tools/count-tests "$TEST_TMPDIR/events.json")
# Passed: a, b, t. Failed: c, the crash, the unbuilt. Skipped: d, e, the CUDA target.
[ "$counted" = "3 3 3" ] || { echo "counted $counted, not 3 3 3"; exit 1; }
