package edgemodel.app;

import android.Manifest;
import android.app.Activity;
import android.app.AlertDialog;
import android.content.Context;
import android.content.DialogInterface;
import android.content.pm.PackageInfo;
import android.content.pm.PackageManager;
import android.text.InputType;
import android.widget.EditText;
import java.util.Arrays;

/** Asks for the address of a bundle. */
final class AddressDialog {
  /** Hears what was typed. */
  interface Listener {
    void onAddress(String address);
  }

  private AddressDialog() {}

  /** Whether this build has asked for the network: the one without does not show what it cannot do. */
  static boolean isAllowed(Context context) {
    try {
      PackageInfo app =
          context.getPackageManager().getPackageInfo(context.getPackageName(), PackageManager.GET_PERMISSIONS);
      return app.requestedPermissions != null
          && Arrays.asList(app.requestedPermissions).contains(Manifest.permission.INTERNET);
    } catch (PackageManager.NameNotFoundException error) {
      throw new IllegalStateException(error); // it is the package that runs
    }
  }

  /**
   * Shows it.
   *
   * @param before stands in the field, to be gone on with.
   */
  static void show(Activity activity, String before, final Listener listener) {
    final EditText field = new EditText(activity);
    field.setId(R.id.address);
    field.setHint(R.string.address);
    field.setInputType(InputType.TYPE_CLASS_TEXT | InputType.TYPE_TEXT_VARIATION_URI);
    field.setMinHeight((int) (48 * activity.getResources().getDisplayMetrics().density));
    field.setText(before);
    new AlertDialog.Builder(activity)
        .setTitle(R.string.import_address)
        .setMessage(before.isEmpty() ? R.string.address_help : R.string.address_goes_on)
        .setView(field)
        .setNegativeButton(android.R.string.cancel, null)
        .setPositiveButton(
            R.string.import_now,
            new DialogInterface.OnClickListener() {
              @Override
              public void onClick(DialogInterface dialog, int which) {
                listener.onAddress(field.getText().toString());
              }
            })
        .show();
  }
}
