package edgemodel.steps;

/** Says from any thread that work should end after the step that is running. */
public interface StopSignal {
  boolean stops();
}
