{{- /* What all objects are called by, and the parts that a Deployment and a StatefulSet have in common. */ -}}

{{- define "tidings.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end }}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Not empty if the hubs share a log. */ -}}
{{- define "tidings.shared" -}}
{{- if or .Values.log.url .Values.log.urlSecret.name }}yes{{ end -}}
{{- end }}

{{- define "tidings.pod" -}}
{{- if and .Values.log.url .Values.log.urlSecret.name }}
{{- fail "log.url and log.urlSecret.name: give one of them" }}
{{- end }}
{{- $options := .Values.options }}
{{- if not (or .Values.key.secretName $options.jwks_url $options.key_file $options.authority $options.insecure) }}
{{- fail "a hub that others can reach has to know whom it trusts: set key.secretName, or options.jwks_url" }}
{{- end }}
metadata:
  labels:
    {{- include "tidings.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # First a hub goes on as before, then it ends its streams one by one, and then there is some time to spare.
  terminationGracePeriodSeconds: {{ add .Values.drainDelaySeconds .Values.drainSeconds 15 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: hub
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        - name: TIDINGS_LISTEN
          value: "0.0.0.0:8080"
        - name: TIDINGS_DATA
          value: /data
        - name: TIDINGS_DRAIN_DELAY
          value: {{ printf "%ds" (int .Values.drainDelaySeconds) | quote }}
        - name: TIDINGS_DRAIN
          value: {{ printf "%ds" (int .Values.drainSeconds) | quote }}
        - name: TIDINGS_LOG_FORMAT
          value: json
        {{- if .Values.log.url }}
        - name: TIDINGS_LOG
          value: {{ .Values.log.url | quote }}
        {{- end }}
        {{- with .Values.log.urlSecret }}
        {{- if .name }}
        - name: TIDINGS_LOG
          valueFrom:
            secretKeyRef:
              name: {{ .name }}
              key: {{ .key }}
        {{- end }}
        {{- end }}
        {{- if .Values.key.secretName }}
        - name: TIDINGS_KEY_FILE
          value: /keys/{{ .Values.key.file }}
        {{- end }}
        {{- with .Values.trustedProxies }}
        - name: TIDINGS_TRUSTED_PROXIES
          value: {{ join "," . | quote }}
        {{- end }}
        {{- /* Numbers of a chart are floating: a million would be 1e+06. */}}
        {{- range $name, $value := $options }}
        - name: TIDINGS_{{ upper $name }}
          value: {{ if kindIs "float64" $value }}{{ int64 $value | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8080
      # Alive is who answers.
      livenessProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # Not /health/ready: that says no when the log cannot be written, and in all hubs at once when they share one. Then nobody would
      # get to them, and browsers that are answered 503 never come back, though streams and what is kept can be served all the same. A
      # hub that leaves is taken out by Kubernetes itself; an alert (TidingsNotReady) tells of the log.
      readinessProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 2
        failureThreshold: 2
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: data
          mountPath: /data
        {{- if .Values.key.secretName }}
        - name: keys
          mountPath: /keys
          readOnly: true
        {{- end }}
  volumes:
    {{- if include "tidings.shared" . }}
    # Events are in the shared log. What is here is of one hub, and may go with it.
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if .Values.key.secretName }}
    - name: keys
      secret:
        secretName: {{ .Values.key.secretName }}
        defaultMode: 0440
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Hubs on different machines, where there are enough.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tidings.selector" . | nindent 10 }}
{{- end }}
