package edgemodel.litert;

import edgemodel.PromptRunner;
import edgemodel.bundle.EdgeBundle;
import java.io.File;
import java.io.IOException;
import java.nio.file.Path;

/** `RunPrompts BUNDLE THREADS LIBRARY`: see PromptRunner. */
public final class RunPrompts {
  private RunPrompts() {}

  public static void main(String[] arguments) throws IOException {
    EdgeBundle bundle = new EdgeBundle(new File(arguments[0]));
    LiteRtApi api = new ForeignLiteRt(Path.of(arguments[2]));
    PromptRunner.serve(LiteRtModels.load(bundle, null, api, Integer.parseInt(arguments[1])));
  }
}
