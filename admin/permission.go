package admin

import (
	"strings"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	pb "holdfast/proto/holdfast/v1"
)

// permission is what a method takes.
type permission struct {
	role pb.Role
	// limited callers may call it too: it shows and touches their domains' alone.
	limited bool
	// open to everybody, without credentials.
	open bool
	// nodes alone may call it.
	nodes bool
}

// Shorthands for the table.
const (
	viewer   = pb.Role_ROLE_VIEWER
	operator = pb.Role_ROLE_OPERATOR
	admin    = pb.Role_ROLE_ADMIN
)

// permissions says for each method what it takes; one that isn't here is refused
// to all. Whoever reads needs viewer, whoever reads mail or acts on it operator,
// whoever configures admin. Limits to domains are kept by the methods themselves,
// so that only those are open to limited callers that were written for it.
var permissions = map[string]permission{
	pb.QueueService_ListQueue_FullMethodName:     {role: viewer, limited: true},
	pb.QueueService_GetQueued_FullMethodName:     {role: viewer, limited: true},
	pb.QueueService_CountQueue_FullMethodName:    {role: viewer, limited: true},
	pb.QueueService_ReadBody_FullMethodName:      {role: operator, limited: true},
	pb.QueueService_OperateQueued_FullMethodName: {role: operator, limited: true},
	pb.QueueService_PreviewBulk_FullMethodName:   {role: operator, limited: true},
	pb.QueueService_StartBulk_FullMethodName:     {role: operator, limited: true},
	pb.QueueService_WatchBulk_FullMethodName:     {role: viewer, limited: true},
	pb.QueueService_ListBulks_FullMethodName:     {role: viewer, limited: true},
	pb.QueueService_StopBulk_FullMethodName:      {role: operator, limited: true},

	pb.LogService_SearchLog_FullMethodName: {role: viewer, limited: true},
	pb.LogService_GetLog_FullMethodName:    {role: viewer, limited: true},
	pb.LogService_TailLog_FullMethodName:   {role: viewer, limited: true},

	pb.DomainService_GetDomain_FullMethodName:    {role: viewer, limited: true},
	pb.DomainService_ListDomains_FullMethodName:  {role: viewer, limited: true},
	pb.DomainService_SetDomain_FullMethodName:    {role: admin},
	pb.DomainService_RemoveDomain_FullMethodName: {role: admin},

	pb.DestinationService_GetDestination_FullMethodName:     {role: viewer, limited: true},
	pb.DestinationService_ListDestinations_FullMethodName:   {role: viewer, limited: true},
	pb.DestinationService_SetDestination_FullMethodName:     {role: admin},
	pb.DestinationService_RemoveDestination_FullMethodName:  {role: admin},
	pb.DestinationService_RetryDestination_FullMethodName:   {role: operator},
	pb.DestinationService_SuspendDestination_FullMethodName: {role: operator},
	pb.DestinationService_ResumeDestination_FullMethodName:  {role: operator},
	// With a host of its own a test shows the destination's password to that host.
	pb.DestinationService_TestDestination_FullMethodName: {role: admin},

	pb.PolicyService_GetPolicy_FullMethodName:    {role: viewer},
	pb.PolicyService_ListPolicies_FullMethodName: {role: viewer},
	pb.PolicyService_SetPolicy_FullMethodName:    {role: admin},
	pb.PolicyService_RemovePolicy_FullMethodName: {role: admin},

	// Who has a mailbox is for whoever looks after a domain's mail to say, a customer
	// too: it is no more than which of the domain's mail is taken.
	pb.RecipientService_ListRecipients_FullMethodName:   {role: viewer, limited: true},
	pb.RecipientService_ListVerified_FullMethodName:     {role: viewer, limited: true},
	pb.RecipientService_AddRecipients_FullMethodName:    {role: operator, limited: true},
	pb.RecipientService_RemoveRecipients_FullMethodName: {role: operator, limited: true},
	// It may ask the destination, as strangers have it do with RCPT. To have it asked
	// anew, whatever is known, takes an operator: the method sees to that.
	pb.RecipientService_CheckRecipient_FullMethodName: {role: viewer, limited: true},

	pb.SettingsService_GetSettings_FullMethodName:         {role: viewer},
	pb.SettingsService_SetSettings_FullMethodName:         {role: admin},
	pb.SettingsService_ExportConfiguration_FullMethodName: {role: viewer},
	pb.SettingsService_ApplyConfiguration_FullMethodName:  {role: admin},

	pb.ClusterService_GetStatus_FullMethodName:          {role: viewer, limited: true},
	pb.ClusterService_GetDrain_FullMethodName:           {role: viewer},
	pb.ClusterService_VerifyState_FullMethodName:        {role: operator},
	pb.ClusterService_VerifyRows_FullMethodName:         {role: operator},
	pb.ClusterService_DrainNode_FullMethodName:          {role: operator},
	pb.ClusterService_ResumeNode_FullMethodName:         {role: operator},
	pb.ClusterService_TransferLeadership_FullMethodName: {role: operator},
	pb.ClusterService_RemoveNode_FullMethodName:         {role: admin},
	pb.ClusterService_RunDrill_FullMethodName:           {role: admin},
	pb.ClusterService_PromoteNode_FullMethodName:        {role: admin},
	pb.ClusterService_JoinCluster_FullMethodName:        {role: admin},
	// All mail, and all secrets.
	pb.ClusterService_SaveSnapshot_FullMethodName: {role: admin},

	pb.AccessService_CreateToken_FullMethodName: {role: admin},
	pb.AccessService_ListTokens_FullMethodName:  {role: admin},
	pb.AccessService_RevokeToken_FullMethodName: {role: admin},

	pb.AccessService_CreateAccount_FullMethodName:  {role: admin},
	pb.AccessService_ListAccounts_FullMethodName:   {role: admin},
	pb.AccessService_ChangePassword_FullMethodName: {role: admin},
	pb.AccessService_RemoveAccount_FullMethodName:  {role: admin},

	// A probe of Kubernetes or of a load balancer has no credentials, and learns
	// whether the node serves, as from any closed port.
	healthpb.Health_Check_FullMethodName: {open: true},
	healthpb.Health_List_FullMethodName:  {open: true},
	healthpb.Health_Watch_FullMethodName: {open: true},

	// It tells what is in the published .proto files.
	reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName:    {role: viewer, limited: true},
	reflectionalpha.ServerReflection_ServerReflectionInfo_FullMethodName: {role: viewer, limited: true},

	pb.PeerService_Hello_FullMethodName:            {nodes: true},
	pb.PeerService_Join_FullMethodName:             {nodes: true},
	pb.PeerService_Propose_FullMethodName:          {nodes: true},
	pb.PeerService_Ping_FullMethodName:             {nodes: true},
	pb.PeerService_Digest_FullMethodName:           {nodes: true},
	pb.PeerService_ChangeMembership_FullMethodName: {nodes: true},
	pb.PeerService_CheckRows_FullMethodName:        {nodes: true},
	pb.PeerService_StartFault_FullMethodName:       {nodes: true},
	pb.PeerService_EndFault_FullMethodName:         {nodes: true},
	pb.PeerService_TryAccept_FullMethodName:        {nodes: true},
	pb.PeerService_ListAnswered_FullMethodName:     {nodes: true},
	pb.PeerService_VerifyRecipient_FullMethodName:  {nodes: true},
}

// methodWord is a method as a refusal names it: ListQueue.
func methodWord(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }
