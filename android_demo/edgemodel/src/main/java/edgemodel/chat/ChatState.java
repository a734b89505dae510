package edgemodel.chat;

import edgemodel.text.ChatMessage;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** What a chat shows, unchanging. */
public final class ChatState {
  /** What is going on. */
  public enum Phase {
    /** No model has been imported. */
    EMPTY,
    IMPORTING,
    LOADING,
    READY,
    ANSWERING,
    FAILED
  }

  public final Phase phase;
  public final List<ChatMessage> messages;

  /** What has come of the answer under way. */
  public final String answer;

  /** Receipt, progress or reason, in one line. */
  public final String status;

  /** A question that got no answer, here or in an earlier process; empty for none. */
  public final String unsent;

  ChatState(Phase phase, List<ChatMessage> messages, String answer, String status, String unsent) {
    this.phase = phase;
    this.messages = Collections.unmodifiableList(new ArrayList<ChatMessage>(messages));
    this.answer = answer;
    this.status = status;
    this.unsent = unsent;
  }

  /** Whether a message can be sent. */
  public boolean canSend() {
    return phase == Phase.READY;
  }

  /** Whether there is something to stop. */
  public boolean canStop() {
    return phase == Phase.ANSWERING || phase == Phase.IMPORTING;
  }
}
