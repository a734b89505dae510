package edgemodel.onnxruntime;

import edgemodel.PromptRunner;
import edgemodel.bundle.EdgeBundle;
import java.io.File;
import java.io.IOException;

/** `RunPrompts BUNDLE THREADS`: see PromptRunner. */
public final class RunPrompts {
  private RunPrompts() {}

  public static void main(String[] arguments) throws IOException {
    EdgeBundle bundle = new EdgeBundle(new File(arguments[0]));
    PromptRunner.serve(OnnxModels.load(bundle, null, Integer.parseInt(arguments[1])));
  }
}
