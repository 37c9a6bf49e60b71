package admintest

import (
	"context"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// SetAnswer says what RCPT is answered to an address; where it is asked anew, text
// says so.
func (w *World) SetAnswer(address string, answer *pb.CheckRecipientResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answers == nil {
		w.answers = make(map[string]*pb.CheckRecipientResponse)
	}
	w.answers[address] = answer
}

// takesNothing closes the gate without a quorum, as a node's is.
func (w *World) takesNothing() *pb.CheckRecipientResponse {
	if w.Leased() {
		return nil
	}
	return &pb.CheckRecipientResponse{
		Code: 451, Enhanced: "4.3.2", Text: "no quorum right now, try again later", Reason: pb.CheckRecipientResponse_REASON_UNKNOWN,
	}
}

// checkRecipient answers as SetAnswer said, and that others can't be asked for now.
func (w *World) checkRecipient(_ context.Context, _ string, _ *pb.DomainConfig, address string, anew bool) *pb.CheckRecipientResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	answer, ok := w.answers[address]
	if !ok {
		return &pb.CheckRecipientResponse{
			Code: 450, Enhanced: "4.4.3", Text: "the recipient can't be verified now, try again later",
			Reason: pb.CheckRecipientResponse_REASON_UNKNOWN,
		}
	}
	answer = proto.CloneOf(answer)
	if anew {
		answer.Text += " (asked anew)"
	}
	return answer
}
