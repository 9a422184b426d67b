// SPDX-License-Identifier: Apache-2.0

package v3

// FelixConfiguration holds the settings of agents: of all ("default"), of one
// node ("node.NAME"), or of the nodes its nodeSelector selects (any other name).
// Members that this agent has no use for are kept for those that have.
type FelixConfiguration struct {
	Object `json:",inline"`
	Spec   FelixConfigurationSpec `json:"spec"`
}

// ProtoPort is an entry of a failsafe list: a port that host endpoints always
// leave open, from or to Net, or from or to anywhere when Net is empty.
type ProtoPort struct {
	Net      string `json:"net,omitempty" check:"net"`
	Protocol string `json:"protocol" oneof:"TCP|UDP|SCTP" fold:"true"`
	Port     uint16 `json:"port" check:"1..65535"`
}

// RouteTableRange is an inclusive range of kernel routing tables.
type RouteTableRange struct {
	Min int `json:"min" check:"1..4294967295"`
	Max int `json:"max" check:"1..4294967295"`
}

// HealthTimeoutOverride replaces one of the internal watchdog timeouts.
type HealthTimeoutOverride struct {
	Name    string   `json:"name"`
	Timeout Duration `json:"timeout"`
}

// BPFConntrackTimeouts are durations, or Auto, of the eBPF data plane.
type BPFConntrackTimeouts struct {
	CreationGracePeriod string `json:"creationGracePeriod,omitempty"`
	TCPSynSent          string `json:"tcpSynSent,omitempty"`
	TCPEstablished      string `json:"tcpEstablished,omitempty"`
	TCPFinsSeen         string `json:"tcpFinsSeen,omitempty"`
	TCPResetSeen        string `json:"tcpResetSeen,omitempty"`
	UDPTimeout          string `json:"udpTimeout,omitempty"`
	GenericTimeout      string `json:"genericTimeout,omitempty"`
	ICMPTimeout         string `json:"icmpTimeout,omitempty"`
}

// FelixConfigurationSpec is the body of a FelixConfiguration. A nil pointer, a
// nil list and an empty string mean that the next source of settings decides;
// an empty list that is not nil (failsafes) means none. The comment on a member
// is its built-in default.
type FelixConfigurationSpec struct {
	NodeSelector string `json:"nodeSelector,omitempty" check:"selector"`

	// Feature detection/overrides.

	FeatureDetectOverride string `json:"featureDetectOverride,omitempty"`
	FeatureGates          string `json:"featureGates,omitempty"`

	// Go runtime.

	GoGCThreshold   *int `json:"goGCThreshold,omitempty"`   // 40
	GoMaxProcs      *int `json:"goMaxProcs,omitempty"`      // -1
	GoMemoryLimitMB *int `json:"goMemoryLimitMB,omitempty"` // -1

	// Health port and timeouts.

	HealthEnabled          *bool                   `json:"healthEnabled,omitempty"`               // false
	HealthHost             string                  `json:"healthHost,omitempty"`                  // localhost
	HealthPort             *int                    `json:"healthPort,omitempty" check:"1..65535"` // 9099
	HealthTimeoutOverrides []HealthTimeoutOverride `json:"healthTimeoutOverrides,omitzero"`

	// Logging.

	LogActionRateLimit      string `json:"logActionRateLimit,omitempty"`
	LogActionRateLimitBurst *int   `json:"logActionRateLimitBurst,omitempty" check:"0..9999"` // 5
	LogDebugFilenameRegex   string `json:"logDebugFilenameRegex,omitempty"`
	LogFilePath             string `json:"logFilePath,omitempty"`                                                                     // /var/log/calico/felix.log
	LogPrefix               string `json:"logPrefix,omitempty"`                                                                       // calico-packet
	LogSeverityFile         string `json:"logSeverityFile,omitempty" oneof:"Trace|Debug|Info|Warning|Error|Fatal|None" fold:"true"`   // INFO
	LogSeverityScreen       string `json:"logSeverityScreen,omitempty" oneof:"Trace|Debug|Info|Warning|Error|Fatal|None" fold:"true"` // INFO
	LogSeveritySys          string `json:"logSeveritySys,omitempty" oneof:"Trace|Debug|Info|Warning|Error|Fatal|None" fold:"true"`    // INFO

	// Prometheus metrics.

	PrometheusGoMetricsEnabled        *bool  `json:"prometheusGoMetricsEnabled,omitempty"` // true
	PrometheusMetricsCAFile           string `json:"prometheusMetricsCAFile,omitempty"`
	PrometheusMetricsCertFile         string `json:"prometheusMetricsCertFile,omitempty"`
	PrometheusMetricsClientAuth       string `json:"prometheusMetricsClientAuth,omitempty" oneof:"NoClientCert|RequireAndVerifyClientCert|RequireAnyClientCert|VerifyClientCertIfGiven" fold:"true"` // NoClientCert
	PrometheusMetricsEnabled          *bool  `json:"prometheusMetricsEnabled,omitempty"`                                                                                                             // false
	PrometheusMetricsHost             string `json:"prometheusMetricsHost,omitempty"`
	PrometheusMetricsKeyFile          string `json:"prometheusMetricsKeyFile,omitempty"`
	PrometheusMetricsPort             *int   `json:"prometheusMetricsPort,omitempty" check:"1..65535"` // 9091
	PrometheusProcessMetricsEnabled   *bool  `json:"prometheusProcessMetricsEnabled,omitempty"`        // true
	PrometheusWireGuardMetricsEnabled *bool  `json:"prometheusWireGuardMetricsEnabled,omitempty"`      // true

	// Common.

	AllowIPIPPacketsFromWorkloads            *bool             `json:"allowIPIPPacketsFromWorkloads,omitempty"`  // false
	AllowVXLANPacketsFromWorkloads           *bool             `json:"allowVXLANPacketsFromWorkloads,omitempty"` // false
	CgroupV2Path                             string            `json:"cgroupV2Path,omitempty"`
	ChainInsertMode                          string            `json:"chainInsertMode,omitempty" oneof:"append|insert" fold:"true"`                  // insert
	DataplaneDriver                          string            `json:"dataplaneDriver,omitempty"`                                                    // calico-iptables-plugin
	DataplaneWatchdogTimeout                 *Duration         `json:"dataplaneWatchdogTimeout,omitempty"`                                           // 90s
	DefaultEndpointToHostAction              string            `json:"defaultEndpointToHostAction,omitempty" oneof:"ACCEPT|DROP|RETURN" fold:"true"` // DROP
	DeviceRouteProtocol                      *int              `json:"deviceRouteProtocol,omitempty" check:"0..255"`                                 // 3
	DeviceRouteSourceAddress                 string            `json:"deviceRouteSourceAddress,omitempty" check:"ip4"`
	DeviceRouteSourceAddressIPv6             string            `json:"deviceRouteSourceAddressIPv6,omitempty" check:"ip6"`
	DisableConntrackInvalidCheck             *bool             `json:"disableConntrackInvalidCheck,omitempty"` // false
	EndpointStatusPathPrefix                 string            `json:"endpointStatusPathPrefix,omitempty"`     // /var/run/calico
	ExternalNodesList                        []string          `json:"externalNodesList,omitzero" check:"each-net"`
	FailsafeInboundHostPorts                 []ProtoPort       `json:"failsafeInboundHostPorts,omitzero"`
	FailsafeOutboundHostPorts                []ProtoPort       `json:"failsafeOutboundHostPorts,omitzero"`
	FloatingIPs                              string            `json:"floatingIPs,omitempty" oneof:"Disabled|Enabled" fold:"true"`                            // Disabled
	IPForwarding                             string            `json:"ipForwarding,omitempty" oneof:"Disabled|Enabled" fold:"true"`                           // Enabled
	IPv4ElevatedRoutePriority                *int              `json:"ipv4ElevatedRoutePriority,omitempty" check:"1..2147483646"`                             // 512
	IPv4NormalRoutePriority                  *int              `json:"ipv4NormalRoutePriority,omitempty" check:"1..2147483646"`                               // 1024
	IPv6ElevatedRoutePriority                *int              `json:"ipv6ElevatedRoutePriority,omitempty" check:"1..2147483646"`                             // 512
	IPv6NormalRoutePriority                  *int              `json:"ipv6NormalRoutePriority,omitempty" check:"1..2147483646"`                               // 1024
	InterfaceExclude                         string            `json:"interfaceExclude,omitempty"`                                                            // kube-ipvs0
	InterfacePrefix                          string            `json:"interfacePrefix,omitempty"`                                                             // cali
	InterfaceRefreshInterval                 *Duration         `json:"interfaceRefreshInterval,omitempty"`                                                    // 90s
	IPv6Support                              *bool             `json:"ipv6Support,omitempty"`                                                                 // true
	IstioAmbientMode                         string            `json:"istioAmbientMode,omitempty" oneof:"Disabled|Enabled" fold:"true"`                       // Disabled
	IstioDSCPMark                            *IntOrString      `json:"istioDSCPMark,omitempty"`                                                               // 23
	LiveMigrationRouteConvergenceTime        *Duration         `json:"liveMigrationRouteConvergenceTime,omitempty"`                                           // 30s
	LocalSubnetL2Reachability                string            `json:"localSubnetL2Reachability,omitempty" oneof:"Disabled|PodsAndLoadBalancers" fold:"true"` // Disabled
	LocalSubnetL2ReachabilityRefreshInterval *Duration         `json:"localSubnetL2ReachabilityRefreshInterval,omitempty"`                                    // 120s
	MTUIfacePattern                          string            `json:"mtuIfacePattern,omitempty"`
	NATOutgoingAddress                       string            `json:"natOutgoingAddress,omitempty" check:"ip4"`
	NATOutgoingExclusions                    string            `json:"natOutgoingExclusions,omitempty" oneof:"IPPoolsAndHostIPs|IPPoolsOnly" fold:"true"` // IPPoolsOnly
	NATPortRange                             *Port             `json:"natPortRange,omitempty"`
	NFTablesFlowTableDataIfacePattern        string            `json:"nftablesFlowTableDataIfacePattern,omitempty"`
	NFTablesFlowTableOffload                 string            `json:"nftablesFlowTableOffload,omitempty" oneof:"All|Disabled" fold:"true"` // Disabled
	NFTablesMode                             string            `json:"nftablesMode,omitempty" oneof:"Auto|Disabled|Enabled" fold:"true"`    // Auto
	NetlinkTimeout                           *Duration         `json:"netlinkTimeout,omitempty"`                                            // 10s
	PolicySyncPathPrefix                     string            `json:"policySyncPathPrefix,omitempty"`
	ProgramClusterRoutes                     string            `json:"programClusterRoutes,omitempty" oneof:"Disabled|EnabledIPIPOnly|EnabledNoEncapOnly|Enabled" fold:"true"` // EnabledIPIPOnly
	RemoveExternalRoutes                     *bool             `json:"removeExternalRoutes,omitempty"`                                                                         // true
	RequireMTUFile                           *bool             `json:"requireMTUFile,omitempty"`                                                                               // false
	RouteRefreshInterval                     *Duration         `json:"routeRefreshInterval,omitempty"`                                                                         // 90s
	RouteSource                              string            `json:"routeSource,omitempty" oneof:"CalicoIPAM|WorkloadIPs" fold:"true"`                                       // CalicoIPAM
	RouteSyncDisabled                        *bool             `json:"routeSyncDisabled,omitempty"`                                                                            // false
	RouteTableRange                          *RouteTableRange  `json:"routeTableRange,omitempty"`
	RouteTableRanges                         []RouteTableRange `json:"routeTableRanges,omitzero"`
	ServiceLoopPrevention                    string            `json:"serviceLoopPrevention,omitempty" oneof:"Disabled|Drop|Reject" fold:"true"` // Drop
	SidecarAccelerationEnabled               *bool             `json:"sidecarAccelerationEnabled,omitempty"`                                     // false
	UseInternalDataplaneDriver               *bool             `json:"useInternalDataplaneDriver,omitempty"`                                     // true
	WorkloadSourceSpoofing                   string            `json:"workloadSourceSpoofing,omitempty" oneof:"Any|Disabled" fold:"true"`        // Disabled

	// iptables.

	IpsetsRefreshInterval              *Duration `json:"ipsetsRefreshInterval,omitempty"`                                       // 90s
	IptablesBackend                    string    `json:"iptablesBackend,omitempty" oneof:"auto|legacy|nft" fold:"true"`         // auto
	IptablesFilterAllowAction          string    `json:"iptablesFilterAllowAction,omitempty" oneof:"ACCEPT|RETURN" fold:"true"` // ACCEPT
	IptablesFilterDenyAction           string    `json:"iptablesFilterDenyAction,omitempty" oneof:"DROP|REJECT" fold:"true"`    // DROP
	IptablesLockProbeInterval          *Duration `json:"iptablesLockProbeInterval,omitempty"`                                   // 50ms
	IptablesMangleAllowAction          string    `json:"iptablesMangleAllowAction,omitempty" oneof:"ACCEPT|RETURN" fold:"true"` // ACCEPT
	IptablesMarkMask                   *uint32   `json:"iptablesMarkMask,omitempty"`                                            // 0xffff0000
	IptablesNATOutgoingInterfaceFilter string    `json:"iptablesNATOutgoingInterfaceFilter,omitempty"`
	IptablesPostWriteCheckInterval     *Duration `json:"iptablesPostWriteCheckInterval,omitempty"`     // 5s
	IptablesRefreshInterval            *Duration `json:"iptablesRefreshInterval,omitempty"`            // 180s
	KubeNodePortRanges                 []Port    `json:"kubeNodePortRanges,omitzero"`                  // 30000:32767
	MaxIpsetSize                       *int      `json:"maxIpsetSize,omitempty" check:"1..4294967295"` // 1048576

	// nftables.

	NFTablesFilterAllowAction string    `json:"nftablesFilterAllowAction,omitempty" oneof:"ACCEPT|RETURN" fold:"true"` // ACCEPT
	NFTablesFilterDenyAction  string    `json:"nftablesFilterDenyAction,omitempty" oneof:"DROP|REJECT" fold:"true"`    // DROP
	NFTablesMangleAllowAction string    `json:"nftablesMangleAllowAction,omitempty" oneof:"ACCEPT|RETURN" fold:"true"` // ACCEPT
	NFTablesMarkMask          *uint32   `json:"nftablesMarkMask,omitempty"`                                            // 0xffff0000
	NFTablesRefreshInterval   *Duration `json:"nftablesRefreshInterval,omitempty"`                                     // 180s

	// eBPF.

	BPFAttachType                      string                `json:"bpfAttachType,omitempty" oneof:"Netkit|TCX|TC" fold:"true"` // Netkit
	BPFCTLBLogFilter                   string                `json:"bpfCTLBLogFilter,omitempty" oneof:"all" fold:"true"`
	BPFConnectTimeLoadBalancing        string                `json:"bpfConnectTimeLoadBalancing,omitempty" oneof:"Disabled|Enabled|TCP" fold:"true"` // TCP
	BPFConnectTimeLoadBalancingEnabled *bool                 `json:"bpfConnectTimeLoadBalancingEnabled,omitempty"`
	BPFConntrackMode                   string                `json:"bpfConntrackMode,omitempty" oneof:"Auto|BPFProgram|Userspace" fold:"true"` // Auto
	BPFConntrackLogLevel               string                `json:"bpfConntrackLogLevel,omitempty" oneof:"debug|off" fold:"true"`             // off
	BPFConntrackTimeouts               *BPFConntrackTimeouts `json:"bpfConntrackTimeouts,omitempty"`
	BPFDSROptoutCIDRs                  []string              `json:"bpfDSROptoutCIDRs,omitzero" check:"each-net"`
	BPFDataIfacePattern                string                `json:"bpfDataIfacePattern,omitempty"`
	BPFDisableGROForIfaces             string                `json:"bpfDisableGROForIfaces,omitempty"`
	BPFDisableUnprivileged             *bool                 `json:"bpfDisableUnprivileged,omitempty"`                                  // true
	BPFEnabled                         *bool                 `json:"bpfEnabled,omitempty"`                                              // false
	BPFEnforceRPF                      string                `json:"bpfEnforceRPF,omitempty" oneof:"Disabled|Loose|Strict" fold:"true"` // Loose
	BPFExcludeCIDRsFromNAT             []string              `json:"bpfExcludeCIDRsFromNAT,omitzero" check:"each-net"`
	BPFExportBufferSizeMB              *int                  `json:"bpfExportBufferSizeMB,omitempty"`                                               // 1
	BPFExtToServiceConnmark            *int                  `json:"bpfExtToServiceConnmark,omitempty"`                                             // 0
	BPFExternalServiceMode             string                `json:"bpfExternalServiceMode,omitempty" oneof:"dsr|tunnel" fold:"true"`               // tunnel
	BPFForceTrackPacketsFromIfaces     []string              `json:"bpfForceTrackPacketsFromIfaces,omitzero"`                                       // docker+
	BPFHostConntrackBypass             *bool                 `json:"bpfHostConntrackBypass,omitempty"`                                              // false
	BPFHostNetworkedNATWithoutCTLB     string                `json:"bpfHostNetworkedNATWithoutCTLB,omitempty" oneof:"Disabled|Enabled" fold:"true"` // Enabled
	BPFIPFragTimeout                   *Duration             `json:"bpfIPFragTimeout,omitempty"`                                                    // 0s
	BPFIPFragmentReassemblyEnabled     *bool                 `json:"bpfIPFragmentReassemblyEnabled,omitempty"`                                      // true
	BPFJITHardening                    string                `json:"bpfJITHardening,omitempty" oneof:"Auto|Strict" fold:"true"`                     // Auto
	BPFKubeProxyHealthzPort            *int                  `json:"bpfKubeProxyHealthzPort,omitempty" check:"0..65535"`                            // 10256
	BPFKubeProxyIptablesCleanupEnabled *bool                 `json:"bpfKubeProxyIptablesCleanupEnabled,omitempty"`                                  // true
	BPFKubeProxyMinSyncPeriod          *Duration             `json:"bpfKubeProxyMinSyncPeriod,omitempty"`                                           // 1s
	BPFL3IfacePattern                  string                `json:"bpfL3IfacePattern,omitempty"`
	BPFLogFilters                      map[string]string     `json:"bpfLogFilters,omitempty"`
	BPFLogLevel                        string                `json:"bpfLogLevel" oneof:"debug|info|off" fold:"true"`                                 // off
	BPFMaglevMaxEndpointsPerService    *int                  `json:"bpfMaglevMaxEndpointsPerService,omitempty"`                                      // 100
	BPFMaglevMaxServices               *int                  `json:"bpfMaglevMaxServices,omitempty"`                                                 // 100
	BPFMapSizeConntrack                *int                  `json:"bpfMapSizeConntrack,omitempty"`                                                  // 512000
	BPFMapSizeConntrackCleanupQueue    *int                  `json:"bpfMapSizeConntrackCleanupQueue,omitempty"`                                      // 100000
	BPFMapSizeConntrackScaling         string                `json:"bpfMapSizeConntrackScaling,omitempty" oneof:"Disabled|DoubleIfFull" fold:"true"` // DoubleIfFull
	BPFMapSizeIPSets                   *int                  `json:"bpfMapSizeIPSets,omitempty"`                                                     // 1048576
	BPFMapSizeIfState                  *int                  `json:"bpfMapSizeIfState,omitempty"`                                                    // 1000
	BPFMapSizeNATAffinity              *int                  `json:"bpfMapSizeNATAffinity,omitempty"`                                                // 65536
	BPFMapSizeNATBackend               *int                  `json:"bpfMapSizeNATBackend,omitempty"`                                                 // 262144
	BPFMapSizeNATFrontend              *int                  `json:"bpfMapSizeNATFrontend,omitempty"`                                                // 65536
	BPFMapSizePerCpuConntrack          *int                  `json:"bpfMapSizePerCpuConntrack,omitempty"`                                            // 0
	BPFMapSizeRoute                    *int                  `json:"bpfMapSizeRoute,omitempty"`                                                      // 262144
	BPFOverlayHostSourceIP             string                `json:"bpfOverlayHostSourceIP,omitempty" oneof:"HostAddress|TunnelAddress" fold:"true"` // TunnelAddress
	BPFPSNATPorts                      *Port                 `json:"bpfPSNATPorts,omitempty"`                                                        // 20000:29999
	BPFPolicyDebugEnabled              *bool                 `json:"bpfPolicyDebugEnabled,omitempty"`                                                // true
	BPFProfiling                       string                `json:"bpfProfiling,omitempty" oneof:"Disabled|Enabled" fold:"true"`                    // Disabled
	BPFRedirectToPeer                  string                `json:"bpfRedirectToPeer,omitempty" oneof:"Disabled|Enabled|L2Only" fold:"true"`        // Enabled

	// Windows.

	WindowsManageFirewallRules string `json:"windowsManageFirewallRules,omitempty" oneof:"Disabled|Enabled" fold:"true"` // Disabled

	// OpenStack support.

	EndpointReportingDelay   *Duration `json:"endpointReportingDelay,omitempty"`        // 1s
	EndpointReportingEnabled *bool     `json:"endpointReportingEnabled,omitempty"`      // false
	MetadataAddr             string    `json:"metadataAddr,omitempty"`                  // 127.0.0.1
	MetadataPort             *int      `json:"metadataPort,omitempty" check:"0..65535"` // 8775
	OpenstackRegion          string    `json:"openstackRegion,omitempty"`
	ReportingInterval        *Duration `json:"reportingInterval,omitempty"` // 30s
	ReportingTTL             *Duration `json:"reportingTTL,omitempty"`      // 90s

	// XDP acceleration for iptables dataplane.

	GenericXDPEnabled  *bool     `json:"genericXDPEnabled,omitempty"`  // false
	XDPEnabled         *bool     `json:"xdpEnabled,omitempty"`         // true
	XDPRefreshInterval *Duration `json:"xdpRefreshInterval,omitempty"` // 90s

	// VXLAN overlay.

	VXLANEnabled *bool `json:"vxlanEnabled,omitempty"`
	VXLANMTU     *int  `json:"vxlanMTU,omitempty" check:"0..65535"`    // 0
	VXLANMTUV6   *int  `json:"vxlanMTUV6,omitempty" check:"0..65535"`  // 0
	VXLANPort    *int  `json:"vxlanPort,omitempty" check:"1..65535"`   // 4789
	VXLANVNI     *int  `json:"vxlanVNI,omitempty" check:"1..16777215"` // 4096

	// IP-in-IP.

	IPIPEnabled *bool `json:"ipipEnabled,omitempty"`
	IPIPMTU     *int  `json:"ipipMTU,omitempty" check:"0..65535"` // 0

	// Wireguard.

	WireguardEnabled               *bool     `json:"wireguardEnabled,omitempty"`                              // false
	WireguardEnabledV6             *bool     `json:"wireguardEnabledV6,omitempty"`                            // false
	WireguardHostEncryptionEnabled *bool     `json:"wireguardHostEncryptionEnabled,omitempty"`                // false
	WireguardInterfaceName         string    `json:"wireguardInterfaceName,omitempty" check:"interface"`      // wireguard.cali
	WireguardInterfaceNameV6       string    `json:"wireguardInterfaceNameV6,omitempty" check:"interface"`    // wg-v6.cali
	WireguardListeningPort         *int      `json:"wireguardListeningPort,omitempty" check:"1..65535"`       // 51820
	WireguardListeningPortV6       *int      `json:"wireguardListeningPortV6,omitempty" check:"1..65535"`     // 51821
	WireguardMTU                   *int      `json:"wireguardMTU,omitempty" check:"0..65535"`                 // 0
	WireguardMTUV6                 *int      `json:"wireguardMTUV6,omitempty" check:"0..65535"`               // 0
	WireguardKeepAlive             *Duration `json:"wireguardKeepAlive,omitempty"`                            // 0s
	WireguardRoutingRulePriority   *int      `json:"wireguardRoutingRulePriority,omitempty" check:"1..32765"` // 99
	WireguardThreadingEnabled      *bool     `json:"wireguardThreadingEnabled,omitempty"`                     // false

	// Flow logs: file reports.

	FlowLogsCollectorDebugTrace  *bool     `json:"flowLogsCollectorDebugTrace,omitempty"` // false
	FlowLogsFlushInterval        *Duration `json:"flowLogsFlushInterval,omitempty"`       // 300s
	FlowLogsGoldmaneServer       string    `json:"flowLogsGoldmaneServer,omitempty"`
	FlowLogsLocalReporter        string    `json:"flowLogsLocalReporter,omitempty" oneof:"Disabled|Enabled" fold:"true"`       // Disabled
	FlowLogsPolicyEvaluationMode string    `json:"flowLogsPolicyEvaluationMode,omitempty" oneof:"Continuous|None" fold:"true"` // Continuous

	// AWS integration.

	AWSSrcDstCheck string `json:"awsSrcDstCheck,omitempty" oneof:"Disable|DoNothing|Enable" fold:"true"` // DoNothing

	// Debugging.

	DebugDisableLogDropping          *bool     `json:"debugDisableLogDropping,omitempty"` // false
	DebugHost                        string    `json:"debugHost,omitempty"`               // localhost
	DebugMemoryProfilePath           string    `json:"debugMemoryProfilePath,omitempty"`
	DebugPort                        *int      `json:"debugPort,omitempty" check:"1..65535"`
	DebugSimulateCalcGraphHangAfter  *Duration `json:"debugSimulateCalcGraphHangAfter,omitempty"`  // 0s
	DebugSimulateDataplaneApplyDelay *Duration `json:"debugSimulateDataplaneApplyDelay,omitempty"` // 0s
	DebugSimulateDataplaneHangAfter  *Duration `json:"debugSimulateDataplaneHangAfter,omitempty"`  // 0s

	// Usage reporting.

	UsageReportingEnabled      *bool     `json:"usageReportingEnabled,omitempty"`      // true
	UsageReportingInitialDelay *Duration `json:"usageReportingInitialDelay,omitempty"` // 300s
	UsageReportingInterval     *Duration `json:"usageReportingInterval,omitempty"`     // 86400s
}
