package edgemodel.litert;

import edgemodel.PromptRunner;
import edgemodel.bundle.EdgeBundle;
import java.io.File;
import java.io.IOException;

/** `RunJniPrompts BUNDLE THREADS LIBRARY JNI`: see PromptRunner. */
public final class RunJniPrompts {
  private RunJniPrompts() {}

  public static void main(String[] arguments) throws IOException {
    EdgeBundle bundle = new EdgeBundle(new File(arguments[0]));
    System.load(arguments[3]);
    LiteRtApi api = new JniLiteRt(arguments[2]);
    PromptRunner.serve(LiteRtModels.load(bundle, null, api, Integer.parseInt(arguments[1])));
  }
}
